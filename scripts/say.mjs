/** Lines for the person who started the script; the output proper stays on standard output. */
export function say(line) {
  process.stderr.write(`cleave: ${line}\n`);
}

/** An error whose message says what to do; shown without a stack. */
export function stopWith(message) {
  return Object.assign(new Error(message), { forPeople: true });
}
