import type { ComponentChildren, Ref } from "preact";

interface ScrollableProps {
  /** Id of the heading that names it. */
  readonly labelledBy: string;
  readonly class?: string;
  readonly busy?: boolean;
  readonly viewport?: Ref<HTMLDivElement>;
  readonly onScroll?: (scrolledPx: number) => void;
  readonly children: ComponentChildren;
}

/** What may be wider or longer than its place. It takes the focus, since a keyboard could not scroll it otherwise. */
export function Scrollable(props: ScrollableProps) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a section of its own would be drawn as one
    <div
      ref={props.viewport ?? null}
      class={props.class ?? "scroll"}
      role="region"
      aria-labelledby={props.labelledBy}
      aria-busy={props.busy ?? false}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: to be scrolled by arrow keys
      tabIndex={0}
      onScroll={(event) => props.onScroll?.(event.currentTarget.scrollTop)}
    >
      {props.children}
    </div>
  );
}
