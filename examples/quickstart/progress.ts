/** Shows what is going on: a list that redraws itself on a terminal, plain lines anywhere else. */
import { createLogUpdate } from "log-update";
import pc from "../../coordinator/cli/colors.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const PLAIN_EVERY_MS = 5_000;

interface Task {
  readonly title: string;
  readonly startedAt: number;
  detail: string;
}

export class Progress {
  readonly #terminal: boolean;
  readonly #stream: NodeJS.WritableStream;
  readonly #update: ReturnType<typeof createLogUpdate>;
  #task: Task | null = null;
  /** A line below the running task: how the traffic fares. */
  #footer = "";
  #timer: NodeJS.Timeout | null = null;
  #frame = 0;
  #lastPlainAt = 0;

  constructor(stream: NodeJS.WritableStream & { isTTY?: boolean } = process.stderr) {
    this.#stream = stream;
    this.#terminal = stream.isTTY === true;
    this.#update = createLogUpdate(stream as NodeJS.WriteStream);
  }

  /** Runs one step and shows it; `detail` says how far it is. */
  async step<T>(title: string, work: (detail: (text: string) => void) => Promise<T>): Promise<T> {
    const task: Task = { title, startedAt: performance.now(), detail: "" };
    this.#task = task;
    this.#start();
    if (!this.#terminal) this.#stream.write(`… ${title}\n`);
    this.#lastPlainAt = performance.now();
    try {
      const result = await work((text) => {
        task.detail = text;
      });
      this.#finish(task, pc.green("✔"));
      return result;
    } catch (error) {
      this.#finish(task, pc.red("✖"));
      throw error;
    }
  }

  footer(text: string): void {
    this.#footer = text;
  }

  /** One line that stays. */
  note(text: string): void {
    this.#update.clear();
    this.#stream.write(`  ${pc.dim(text)}\n`);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#update.clear();
  }

  #start(): void {
    if (this.#timer !== null) return;
    this.#timer = setInterval(() => this.#draw(), this.#terminal ? 100 : 500);
    this.#timer.unref();
  }

  #draw(): void {
    const task = this.#task;
    if (task === null) return;
    if (this.#terminal) {
      this.#frame = (this.#frame + 1) % FRAMES.length;
      const lines = [`${pc.cyan(FRAMES[this.#frame] as string)} ${task.title} ${pc.dim(describe(task))}`];
      if (this.#footer !== "") lines.push(`  ${pc.dim(this.#footer)}`);
      this.#update(lines.join("\n"));
    } else if (performance.now() - this.#lastPlainAt >= PLAIN_EVERY_MS) {
      this.#lastPlainAt = performance.now();
      const footer = this.#footer === "" ? "" : ` · ${this.#footer}`;
      this.#stream.write(`  ${task.title}: ${describe(task)}${footer}\n`);
    }
  }

  #finish(task: Task, mark: string): void {
    this.#task = null;
    this.#update.clear();
    this.#stream.write(`${mark} ${task.title} ${pc.dim(describe(task))}\n`);
  }
}

function describe(task: Task): string {
  const seconds = ((performance.now() - task.startedAt) / 1000).toFixed(1);
  return [task.detail, `${seconds} s`].filter((text) => text !== "").join(" · ");
}
