/** Text for terminals. */
import wrapAnsi from "wrap-ansi";

const COLUMNS = 80;

/** Broken at spaces where it would pass the 80th column, if there is a terminal to read it; `indent` columns come before. */
export function wrapped(text: string, indent: number): string {
  return process.stdout.isTTY ? fitted(text, indent) : text;
}

/** The same anywhere. A word that is longer than a line stays whole: it is there to be copied. */
export function fitted(text: string, indent: number): string {
  const lines = wrapAnsi(text, COLUMNS - indent, { trim: true, hard: false }).split("\n");
  return lines.join(`\n${" ".repeat(indent)}`);
}

/** `950 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`. */
export function duration(ms: number): string {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * What came from elsewhere (names of repositories, messages of programs, organizations) on one line and without
 * anything that a terminal obeys: escape sequences, C1 controls, changes of the writing direction.
 */
export function plain(text: string): string {
  return text
    .replace(/[\s\u2028\u2029]+/g, " ")
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}
