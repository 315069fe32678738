/** Server-sent events over `fetch`: the browser's own EventSource cannot carry a token. */
import { ask, Refused } from "./client.ts";

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;
/** The server says something every 15 s; after this much silence the connection is dead, whatever it looks like. */
const SILENT_MS = 40_000;

interface Listener<T> {
  /** Where to go on: asked again for every connection. */
  readonly path: () => string;
  readonly onEvent: (data: T) => void;
  /** Null: connected. */
  readonly onState: (problem: Refused | null) => void;
}

/** Listens until `signal` is aborted; connects again after every break. Ends by itself when a token is wanted. */
export async function listen<T>(listener: Listener<T>, signal: AbortSignal): Promise<void> {
  let pauseMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      await connection(listener, signal, () => {
        pauseMs = FIRST_PAUSE_MS;
      });
      listener.onState(new Refused(0, "UNREACHABLE", "the connection ended", "It is tried again."));
    } catch (error) {
      if (signal.aborted) return;
      const refused =
        error instanceof Refused
          ? error
          : new Refused(0, "UNREACHABLE", "the connection broke", "It is tried again.");
      listener.onState(refused);
      if (refused.status === 401) return;
    }
    await pause(pauseMs, signal);
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
  }
}

async function connection<T>(
  listener: Listener<T>,
  signal: AbortSignal,
  onAnswer: () => void,
): Promise<void> {
  const own = new AbortController();
  const end = () => own.abort();
  signal.addEventListener("abort", end);
  let silence = setTimeout(end, SILENT_MS);
  try {
    const response = await ask(listener.path(), { accept: "text/event-stream", signal: own.signal });
    if (response.body === null) return;
    onAnswer();
    listener.onState(null);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(end, SILENT_MS);
      text += value;
      let from = 0;
      for (let to = text.indexOf("\n\n"); to >= 0; to = text.indexOf("\n\n", from)) {
        const data = /^data: (.*)$/m.exec(text.slice(from, to))?.[1];
        from = to + 2;
        if (data !== undefined) listener.onEvent(JSON.parse(data) as T);
      }
      text = text.slice(from);
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", end);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
