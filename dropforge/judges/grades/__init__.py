"""The grading judge: a mark for each answer; the higher one wins, and equal ones tie."""
