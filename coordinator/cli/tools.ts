/** What the same command hands over to: programs with command lines of their own (bin/cleave.mjs starts them). */
export const TOOLS = [
  { name: "coordinator", usage: "--config FILE", about: "run a coordinator" },
  { name: "agent", usage: "--config FILE", about: "run the agent of one Pod" },
  { name: "analyze", usage: "--database URL --root TABLE", about: "whose rows are in which table" },
  { name: "measure", usage: "--agent-config FILE", about: "what every organization of a Pod weighs" },
  { name: "root", usage: "--config FILE", about: "is a Pod's root of files the one that it was?" },
  { name: "checksum", usage: "REPOSITORY…", about: "Gitaly's checksum of repositories on this machine" },
] as const;

export function toolsHelp(): string {
  const lines = TOOLS.map(({ name, usage, about }) => {
    const left = `  cleave ${name} ${usage}`;
    return left.length < 40 ? `${left.padEnd(40)}${about}` : `${left}\n${" ".repeat(40)}${about}`;
  });
  return `Daemons and tools (each has its own --help):\n${lines.join("\n")}`;
}
