import { useLayoutEffect, useRef } from "preact/hooks";
import { operator, signIn, token, tokenRefused, tokenWanted } from "../state/client.ts";

/** A token for this tab, and the name that goes into the log. */
export function SignIn({ onSignedIn }: { onSignedIn: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const form = useRef<HTMLFormElement>(null);
  /** The event of a close comes later, when the form may be wanted again. */
  const closing = useRef(false);
  const open = tokenWanted.value;
  useLayoutEffect(() => {
    if (open && !dialog.current?.open) {
      form.current?.reset();
      dialog.current?.showModal();
    }
    if (!open && dialog.current?.open) {
      closing.current = true;
      dialog.current.close();
    }
  }, [open]);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget as HTMLFormElement);
    const entered = String(given.get("token") ?? "").trim();
    signIn(entered === "" ? token.value : entered, String(given.get("operator") ?? "").trim());
    onSignedIn();
  };
  return (
    <dialog
      ref={dialog}
      aria-labelledby="sign-in-title"
      onClose={() => {
        if (!closing.current) tokenWanted.value = false;
        closing.current = false;
      }}
    >
      <form ref={form} method="dialog" onSubmit={submit}>
        <h2 id="sign-in-title">Sign in</h2>
        {tokenRefused.value && (
          <p class="trouble" role="alert">
            The coordinator did not accept this token.
          </p>
        )}
        <p>
          The coordinator's token is kept for this tab only. A coordinator without one needs none; your name
          goes into the log with every command.
        </p>
        <label class="field">
          Token
          <input
            name="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            placeholder={token.value === null ? "" : "unchanged"}
          />
        </label>
        <label class="field">
          Your name
          <input name="operator" autocomplete="username" defaultValue={operator.value} maxLength={100} />
        </label>
        <p class="buttons">
          <button type="submit" class="primary">
            Sign in
          </button>
          {token.value !== null && (
            <button
              type="button"
              onClick={() => {
                signIn(null, operator.value);
                onSignedIn();
              }}
            >
              Forget the token
            </button>
          )}
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </p>
      </form>
    </dialog>
  );
}
