"""Daft's MinHash tutorial (tutorials/minhash_dedupe in its repository), without what it can spare.

As there: `minhash`, bands as chunks of it, explode, group, and an edge from each row of a group to
its lowest. Left out in its favour: normalising the text, since the corpus is normalised; the band's
number, which takes a Python UDF; and connected components, since a row with an edge to a lower one
is a duplicate. 16 bands of 8 hashes: the tutorial's optimal_param(.8, 128), 9 of 13, finds few.
"""

import daft
from daft import col
from daft.functions import minhash
from measure import contest


def prepare(texts: list[str]) -> daft.DataFrame:
    return daft.from_pydict({"row": list(range(len(texts))), "text": texts}).collect()


def find(corpus: daft.DataFrame) -> list[int]:
    sketch = minhash(col("text"), num_hashes=128, ngram_size=3, seed=42, hash_function="xxhash")
    bands = corpus.select("row", sketch.chunk(8).alias("band")).explode("band")
    groups = (
        bands.select("row", col("band").hash())
        .groupby("band")
        .agg(col("row").list_agg().alias("rows"))
        .where(col("rows").list_count() > 1)
    )
    edges = (
        groups.with_column("lowest", col("rows").list_min())
        .explode("rows")
        .where(col("rows") != col("lowest"))
        .select("rows")
        .distinct()
    )
    return edges.to_pydict()["rows"]


if __name__ == "__main__":
    contest(prepare, find)
