/** `completion SHELL`: words for the shell's Tab key: commands, options, states, and what the coordinator has. */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { RootCommand, script } from "@bomb.sh/tab";
import { Argument, type Command } from "commander";
import type { ClusterStatus } from "../api/ports.ts";
import { type Context, examples } from "./context.ts";
import { TOOLS } from "./tools.ts";
import { STATES } from "./wait.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
/** Whoever presses Tab waits for the answer: a coordinator that is far away or down costs no more than this. */
const PATIENCE_MS = 700;

/**
 * The library's script for bash evaluates the line that is being typed, so that a command substitution in it would run at
 * the Tab key, and counts on a function of the package bash-completion, which servers often lack. This one does neither.
 */
const BASH = `_cleave() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line == :* ]] || COMPREPLY+=("\${line%%$'\\t'*}")
    done < <(cleave complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -F _cleave cleave`;

export function registerCompletionCommand(program: Command, context: Context): void {
  program
    .command("completion")
    .addArgument(new Argument("<shell>", "your shell").choices(SHELLS))
    .description("print a script that completes commands, options, migrations and Pods in a shell")
    .addHelpText(
      "after",
      `${examples("completion bash > /etc/bash_completion.d/cleave", "completion fish > ~/.config/fish/completions/cleave.fish")}\n  source <(cleave completion zsh)           # in ~/.zshrc, after compinit`,
    )
    .action((shell: (typeof SHELLS)[number]) => {
      const text = shell === "bash" ? BASH : captured(() => script(shell, "cleave", "cleave"));
      context.print({ shell, script: text }, text);
    });

  // What the scripts call: `cleave complete -- split "pl"`. Its answer is a word and its meaning a line.
  program
    .command("complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      const asked = program.commands.find((command) => words.includes(command.name()));
      const needs = asked?.registeredArguments.some((one) => ["migration", "pod"].includes(one.name()));
      const status = needs ? await soon(context) : null;
      wordsFor(program, status, words).parse([...words]);
    });
}

/** The library prints; with `--json` the text has to go elsewhere. */
function captured(print: () => void): string {
  const { log } = console;
  let text = "";
  console.log = (line: string) => {
    text += text === "" ? line : `\n${line}`;
  };
  try {
    print();
  } finally {
    console.log = log;
  }
  return text;
}

/** Null when it does not answer soon: the shell then completes what is known without. */
function soon(context: Context): Promise<ClusterStatus | null> {
  const late = new Promise<null>((resolve) => setTimeout(resolve, PATIENCE_MS, null));
  return Promise.race([
    context
      .client()
      .status()
      .catch(() => null),
    late,
  ]);
}

type Say = (value: string, description: string) => void;

function wordsFor(program: Command, status: ClusterStatus | null, words: readonly string[]): RootCommand {
  const root = new RootCommand();
  const values: Readonly<Record<string, (say: Say) => void>> = {
    migration: (say) => {
      for (const { migrationId, kind, lifecycle } of status?.migrations ?? [])
        say(migrationId, `${kind}, ${lifecycle}`);
    },
    pod: (say) => {
      for (const { podId } of status?.pods ?? []) say(podId, "");
    },
    file: (say) => files(words.at(-1) ?? "", say),
  };
  const states = (say: Say) => {
    for (const state of STATES) say(state, "");
  };
  const addOptions = (to: ReturnType<RootCommand["command"]>, from: Command) => {
    for (const { long, description, required, optional } of from.createHelp().visibleOptions(from)) {
      const name = long?.slice(2);
      if (name === undefined) continue;
      if (name === "for" || name === "wait") to.option(name, description, states);
      else if (/^(ca|output|report|sizes|config|agent-config)$/.test(name))
        to.option(name, description, values["file"]);
      // A handler, even one without words, says that a value follows.
      else if (required || optional) to.option(name, description, () => undefined);
      else to.option(name, description);
    }
  };
  addOptions(root, program);
  for (const command of program.createHelp().visibleCommands(program)) {
    const own = root.command(command.name(), command.description());
    addOptions(own, command);
    addOptions(own, program);
    for (const argument of command.registeredArguments) {
      const { argChoices } = argument;
      const choices = (say: Say) => {
        for (const choice of argChoices ?? []) say(choice, "");
      };
      own.argument(argument.name(), argChoices ? choices : values[argument.name()], argument.variadic);
    }
  }
  for (const { name, about } of TOOLS) root.command(name, about);
  return root;
}

/** Files and folders that begin like `word`; the scripts leave nothing to the shell. */
function files(word: string, say: Say): void {
  const folder = word.endsWith("/") ? word : dirname(word);
  try {
    for (const entry of readdirSync(folder === "" ? "." : folder, { withFileTypes: true })) {
      const path = word.includes("/") ? join(folder, entry.name) : entry.name;
      say(entry.isDirectory() ? `${path}/` : path, "");
    }
  } catch {
    // No such folder: nothing to offer.
  }
}
