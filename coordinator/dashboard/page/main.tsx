import { effect } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { announcement } from "./state/announcements.ts";
import { followStatus, status } from "./state/live.ts";
import { followLog } from "./state/log.ts";
import { view } from "./state/route.ts";
import { Header, Trouble } from "./views/header.tsx";
import { MigrationPage } from "./views/migration.tsx";
import { Overview } from "./views/overview.tsx";
import { SignIn } from "./views/sign-in.tsx";

let streams = new AbortController();

/** Again with every token: what was shown before may not be this one's to see. */
function connect(): void {
  streams.abort();
  streams = new AbortController();
  void followStatus(streams.signal);
  void followLog(streams.signal);
}

function focusMain(): void {
  const heading = document.querySelector<HTMLElement>("main h1");
  (heading ?? document.querySelector<HTMLElement>("main"))?.focus();
}

function App() {
  const shown = view.value;
  const key = shown.name === "migration" ? shown.id : "";
  const first = useRef(true);
  useEffect(() => {
    // The first view is where the reader is anyway.
    if (!first.current) focusMain();
    first.current = false;
  }, [key]);
  return (
    <>
      <button type="button" class="skip" onClick={focusMain}>
        Skip to the content
      </button>
      <Header />
      <main id="main" tabIndex={-1}>
        <Trouble />
        {shown.name === "migration" ? <MigrationPage key={shown.id} id={shown.id} /> : <Overview />}
      </main>
      <div class="hidden" role="status" aria-live="polite">
        {announcement.value}
      </div>
      <SignIn onSignedIn={connect} />
    </>
  );
}

effect(() => {
  const shown = view.value;
  const found = status.value?.migrations.find(
    (one) => shown.name === "migration" && one.migrationId === shown.id,
  );
  document.title = found === undefined ? "Cleave" : `${found.lifecycle}: ${found.migrationId} – Cleave`;
});

const root = document.getElementById("app");
if (root === null) throw new Error("the page has no place for the dashboard");
render(<App />, root);
connect();
