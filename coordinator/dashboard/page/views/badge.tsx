import type { ComponentChildren } from "preact";
import type { Tone } from "../model/words.ts";

/** A word with a shape and a colour of its own: the colour alone would not be seen by everybody. */
export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`badge ${tone}`}>
      <span aria-hidden="true">{{ good: "●", busy: "◐", bad: "▲", quiet: "○" }[tone]}</span> {children}
    </span>
  );
}
