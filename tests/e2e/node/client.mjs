// The openai package of npm as an application uses it: `node client.mjs once|forever`.
// Reads DROPFORGE_API_URL, DROPFORGE_TOKEN and DROPFORGE_MODEL; writes one line of JSON for each
// finding (`once`: a single object of them all).
import OpenAI from "openai";

const { DROPFORGE_API_URL: url, DROPFORGE_TOKEN: token, DROPFORGE_MODEL: model } = process.env;
const project = model.split("/")[0];
const messages = [{ role: "user", content: "Where is my parcel?" }];
const client = (apiKey = token) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const told = error => ({
  name: error.constructor.name, status: error.status, code: error.code, param: error.param,
  type: error.type, request: error.requestID,
});

async function failure(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return told(error);
  }
}

async function streamed(openai) {
  const stream = await openai.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  });
  const found = { text: "", model: "", chunks: 0, reason: null };
  for await (const chunk of stream) {
    found.chunks += 1;
    found.model = chunk.model;
    found.text += chunk.choices[0]?.delta?.content ?? "";
    found.reason = chunk.choices[0]?.finish_reason ?? found.reason;
  }
  return found;
}

async function once() {
  const openai = client();
  const { data: completion, response, request_id } =
    await openai.chat.completions.create({ model, messages }).withResponse();
  const listed = [];
  for await (const card of openai.models.list()) listed.push(card.id);
  const embedded = await openai.embeddings.create({ model: `${project}/embeddings`, input: ["a", "b"] });
  const refusing = client("df-wrong");
  console.log(JSON.stringify({
    completion, request: request_id,
    headers: Object.fromEntries(response.headers),
    streamed: await streamed(openai),
    listed,
    retrieved: (await openai.models.retrieve(`${project}/base`)).id,
    dimensions: embedded.data.map(entry => entry.embedding.length),
    errors: [
      await failure(refusing.models.list()),
      await failure(openai.chat.completions.create({ model: "nobody", messages })),
      await failure(openai.chat.completions.create({ model, messages: [] })),
      await failure(openai.chat.completions.create({ model, messages, temperature: 7 })),
    ],
  }));
}

async function forever() {
  const openai = client();
  for (;;) {
    try {
      console.log(JSON.stringify(await streamed(openai)));
    } catch (error) {
      console.log(JSON.stringify({ error: told(error) }));
      if (error.status === 401) return;
    }
  }
}

await { once, forever }[process.argv[2]]();
