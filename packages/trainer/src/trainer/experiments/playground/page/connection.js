// Requests to the server: facts about the model, and stories as lines of JSON.

/** A refused request; `field` names the wrong setting, or is null. */
export class Refusal extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. Is it still running?");
  }
}

async function refusalOf(response) {
  try {
    const { error, field } = await response.json();
    return new Refusal(error, field ?? null);
  } catch {
    return new Refusal(`The server answered with status ${response.status}.`);
  }
}

/** The facts about the model. */
export async function readFacts() {
  const response = await ask("model");
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/**
 * Yield a story's tokens as they come; the value returned says how it ended: "length" or "end_of_text".
 * Throws a Refusal, or an AbortError once `signal` is aborted.
 */
export async function* readStory(request, signal, maxBytes) {
  const body = JSON.stringify(request);
  const bytes = new TextEncoder().encode(body).length;
  if (bytes > maxBytes) {
    throw new Refusal(
      `the beginning is too long (${request.prompt.length.toLocaleString("en")} characters, in a request of ` +
        `${bytes.toLocaleString("en")} bytes): expected at most ${maxBytes.toLocaleString("en")} bytes; shorten it`,
      "prompt",
    );
  }
  const headers = { "Content-Type": "application/json" };
  const response = await ask("story", { method: "POST", headers, body, signal });
  if (!response.ok) throw await refusalOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("The connection was lost before the text ended.");
    }
    if (part.done) throw new Refusal("The connection was closed before the text ended.");
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.error) throw new Refusal(event.error);
      if (event.end) return event.end;
      yield event.token;
    }
  }
}
