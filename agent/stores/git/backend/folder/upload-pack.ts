/** What git answers to who reads a repository over smart HTTP: two requests, each answered by one `git upload-pack`. */
import { PassThrough, type Readable } from "node:stream";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { endGit, type GitChild, type GitOptions, spawnGit } from "./run-git.ts";

/** Hidden refs are refs too: a repository is whole or it is not copied. */
const SHOW_ALL = [
  ["transfer.hideRefs", "!refs"],
  ["uploadpack.hideRefs", "!refs"],
  ["uploadpack.allowAnySHA1InWant", "true"],
  ["uploadpack.allowFilter", "false"],
  // What git once noted of what a commit reaches: of a history that ended there then, it is wrong after a deepening.
  ["pack.useBitmaps", "false"],
  ["core.commitGraph", "false"],
] as const;

function start(directory: string, git: GitOptions, protocol: string, advertise: boolean): GitChild {
  const options = ["--strict", "--stateless-rpc", ...(advertise ? ["--advertise-refs"] : [])];
  return spawnGit(["upload-pack", ...options, directory], {
    ...git,
    config: [...(git.config ?? []), ...SHOW_ALL],
    environment: protocol === "" ? {} : { GIT_PROTOCOL: protocol },
  });
}

/** Git's output. It fails when git does, so that the reader sees a failure. */
function outputOf(child: GitChild): PassThrough {
  const output = new PassThrough({
    destroy(error, done) {
      endGit(child);
      done(error);
    },
  });
  child.stdout.pipe(output, { end: false });
  child.stderr.resume();
  child.on("error", (error) => output.destroy(error));
  child.on("close", (code) => {
    if (code === 0) output.end();
    else
      output.destroy(
        new CleaveError("REPOSITORY_UNREADABLE", `git upload-pack ended with code ${code ?? "none"}`),
      );
  });
  return output;
}

export function advertiseRefs(directory: string, git: GitOptions, protocol: string): Readable {
  const child = start(directory, git, protocol, true);
  child.stdin.on("error", () => undefined);
  child.stdin.end();
  const output = outputOf(child);
  output.write("001e# service=git-upload-pack\n0000");
  return output;
}

export function uploadPack(
  directory: string,
  git: GitOptions,
  protocol: string,
  request: Readable,
): Readable {
  const child = start(directory, git, protocol, false);
  child.stdin.on("error", () => undefined);
  const output = outputOf(child);
  request.on("error", (error) => output.destroy(error));
  request.pipe(child.stdin);
  return output;
}
