/** `cleave checksum REPOSITORY…`: Gitaly's checksum of repositories on this machine, to compare by hand. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { runCommand } from "../../../protocol/adapters/run-process.ts";
import { toCleaveError } from "../../../protocol/errors.ts";
import { repositoryChecksum } from "../../stores/git/backend/folder/checksum.ts";

/**
 * Prints `<checksum>  <path>  (<reason>)` for each, in the order given; with `json` one array of them.
 * @returns the exit code: 1 when any of them is unreadable or no repository.
 */
export async function runChecksum(repositories: readonly string[], json = false): Promise<number> {
  const found = [];
  for (const path of repositories) {
    try {
      const { checksum, reason, detail } = await repositoryChecksum(await gitDirectoryOf(path));
      const [line = ""] = detail.split("\n");
      found.push({ path, checksum, reason, detail: line, error: null });
      if (!json)
        process.stdout.write(`${checksum}  ${path}  (${reason}${detail === "" ? "" : `: ${line}`})\n`);
    } catch (thrown) {
      const { code, message, nextStep } = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
      found.push({ path, checksum: null, reason: null, detail: "", error: { code, message, nextStep } });
      if (!json) process.stderr.write(`${code}: ${message}\n  ${nextStep}\n`);
    }
  }
  if (json) process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
  return found.some(({ error, reason }) => error !== null || reason === "unreadable") ? 1 : 0;
}

/** A clone with a work tree is named by its folder, as git commands do. */
async function gitDirectoryOf(path: string): Promise<string> {
  const inside = join(path, ".git");
  const isFolder = await stat(inside).then(
    (found) => found.isDirectory(),
    () => false,
  );
  return isFolder ? inside : path;
}

const program = new Command("cleave checksum")
  .description(
    "Prints Gitaly's checksum of each repository, with the reason beside zeros: empty or unreadable.",
  )
  .argument("<repositories...>", "folders of repositories on this machine, bare or with a work tree")
  .option("--json", "print JSON", false)
  .addHelpText(
    "after",
    `
Example:
  cleave checksum /var/opt/git/@hashed/6b/86/6b86b2.git

Exit codes:
  0 all were read   1 one is unreadable or no repository   2 wrong usage`,
  )
  .exitOverride();

if (import.meta.main)
  await runCommand(async () => {
    program.parse();
    return await runChecksum(program.args, program.opts<{ json: boolean }>().json);
  });
