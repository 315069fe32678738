import { age } from "../model/words.ts";
import { token, tokenWanted } from "../state/client.ts";
import { connected, now, status, streamProblem } from "../state/live.ts";
import { THEMES, type Theme, theme } from "../state/theme.ts";

export function Header() {
  return (
    <header class="top">
      <a class="brand" href="#/">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="7" />
          <path d="M6 16h8M14 16l9-8M14 16l9 8" />
        </svg>
        Cleave
      </a>
      <nav aria-label="Pages">
        <a href="#/">Overview</a>
      </nav>
      <Connection />
      <label class="theme">
        <span class="hidden">Colours</span>
        <select
          value={theme.value}
          onChange={(event) => {
            theme.value = event.currentTarget.value as Theme;
          }}
        >
          {THEMES.map((name) => (
            <option key={name} value={name}>
              {{ system: "System colours", light: "Light", dark: "Dark" }[name]}
            </option>
          ))}
        </select>
      </label>
      <button
        type="button"
        class="plain"
        onClick={() => {
          tokenWanted.value = true;
        }}
      >
        {token.value === null ? "Sign in" : "Signed in"}
      </button>
    </header>
  );
}

/** Whether what is shown is what is: an old screen must not look like a quiet night. */
function Connection() {
  const known = status.value;
  if (!connected.value) {
    const since = known === null ? "" : `, as of ${age(now.value - known.at)} ago`;
    return <p class="connection bad">{known === null ? "Connecting…" : `Not connected${since}`}</p>;
  }
  if (known !== null && !known.connected) return <p class="connection bad">Live, but NATS is out of reach</p>;
  return <p class="connection good">Live</p>;
}

/** What keeps the page from being true, in full. */
export function Trouble() {
  const problem = streamProblem.value;
  const known = status.value;
  if (problem !== null && problem.status !== 401)
    return (
      <p class="trouble" role="alert">
        <strong>{known === null ? "Nothing is known yet" : "What you see is old"}</strong>: {problem.message}.{" "}
        {problem.nextStep}
      </p>
    );
  if (known !== null && !known.connected)
    return (
      <p class="trouble" role="alert">
        <strong>NATS does not answer the coordinator</strong>: nothing can be decided until it does. A fence
        that is up ends by its deadline.
      </p>
    );
  return null;
}
