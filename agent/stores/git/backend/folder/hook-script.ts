/**
 * The `reference-transaction` hook: what every ref update by git asks before it may commit. Two files:
 *
 * - the stub, a copy in each repository, which only sources the script. Sourcing a missing file ends a POSIX shell
 *   with an error, so a lost state directory refuses writes; a dangling symbolic link would be no hook at all.
 * - the script, once, in the fence's `control` folder. Shell builtins alone until the answer is known: git runs it
 *   two times per transaction, and each process costs about a millisecond.
 */
import { type FencedStore, fencePaths } from "../../../file-fence/layout.ts";

export const HOOK_NAME = "reference-transaction";
/** An earlier hook of that name; it keeps being run. */
export const EARLIER_HOOK_NAME = `${HOOK_NAME}.before-cleave`;
/** How long a writer waits for the agent to find out who owns a new repository. */
const OWNER_WAIT_MS = 10_000;
const OWNER_POLL_MS = 50;

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

export function stubText(scriptPath: string): string {
  return `#!/bin/sh
# Cleave: asks whether this Pod may change this repository's refs. Do not edit; the agent puts it back.
. ${quote(scriptPath)}
exit 1
`;
}

/** `root` and `control` are real paths (no symbolic links), since the hook compares with its physical folder. */
export function scriptText(root: string, control: string): string {
  const store: FencedStore = "git";
  const paths = fencePaths(control);
  return `# Sourced by hooks/${HOOK_NAME} of each repository. Written by Cleave's agent; do not edit.
# $1 is prepared (refs are locked, nothing is changed), committed or aborted. A non-zero end of "prepared" refuses.
cleave_state=$1
cleave_root=${quote(root)}
cleave_control=${quote(control)}
cleave_inflight=${quote(paths.inflight(store))}
cleave_dirty=${quote(paths.dirty(store))}

cleave_refuse() {
  printf 'cleave: %s\\n' "$1" >&2
  exit 1
}

# The repository is where this hook lies, also for git processes with a work tree's own GIT_DIR.
cleave_here=$PWD
case $0 in
  */*) cleave_hooks=\${0%/*} ;;
  *) cleave_hooks=. ;;
esac
cd "$cleave_hooks/.." && cd -P . || cleave_refuse 'the repository of this hook cannot be entered'
cleave_repository=\${PWD#"$cleave_root"/}
cleave_earlier=$PWD/hooks/${EARLIER_HOOK_NAME}
[ "$cleave_repository" != "$PWD" ] || cleave_refuse "$PWD is outside of this Pod's Git root"
cd "$cleave_here" || cleave_refuse 'the working directory cannot be entered'

case $cleave_repository in
  *[[:cntrl:]]*) cleave_refuse 'this repository is read-only: its path has a control character' ;;
esac

# Git (the parent) as the fence knows it: process id, start time, and where these mean something. /proc may be that of an
# outer PID namespace: what it calls our parent is then another number, and the start time is all that is taken from it.
cleave_own= cleave_stat= cleave_boot= cleave_host=
read -r cleave_own 2>/dev/null </proc/self/stat
set -- \${cleave_own##*) }
cleave_own_start=\${20}
read -r cleave_stat 2>/dev/null </proc/\${2:-self}/stat
set -- \${cleave_stat##*) }
cleave_start=\${20}
[ -n "$cleave_start" ] && [ -n "$cleave_own_start" ] || [ "$cleave_state" != prepared ] ||
  cleave_refuse 'the writing process cannot be identified'

cleave_inode() { # which namespace of this process; its number is in $cleave_found, or -
  cleave_found=
  while read -r cleave_name cleave_value; do
    [ "$cleave_name" != ino: ] || cleave_found=$cleave_value
  done </proc/self/fdinfo/3
  case $cleave_found in
    *[0-9]*) ;;
    *)
      # Linux before 5.14 tells it to nobody but readlink.
      cleave_found=$(readlink "/proc/self/ns/$1")
      cleave_found=\${cleave_found#*\\[}
      cleave_found=\${cleave_found%]}
      ;;
  esac
  case $cleave_found in '' | *[!0-9]*) cleave_found=- ;; esac
}
cleave_pidns=- cleave_timens=-
if [ -e /proc/self/ns/pid ]; then
  cleave_inode pid 3</proc/self/ns/pid 2>/dev/null
  cleave_pidns=$cleave_found
fi
if [ -e /proc/self/ns/time ]; then
  cleave_inode time 3</proc/self/ns/time 2>/dev/null
  cleave_timens=$cleave_found
fi
read -r cleave_boot 2>/dev/null </proc/sys/kernel/random/boot_id
case $cleave_boot in '' | *[!A-Za-z0-9-]*) cleave_boot=- ;; esac
read -r cleave_host 2>/dev/null </proc/sys/kernel/hostname
case $cleave_host in '' | *[!A-Za-z0-9._-]*) cleave_host=- ;; esac
cleave_writer="$PPID $cleave_start pidns=$cleave_pidns timens=$cleave_timens boot=$cleave_boot host=$cleave_host"

# One process may have transactions within transactions, so each gets a number, and the last one begun is the first one to
# end. Two processes never have the same name here, in whatever containers and on whatever machines they are.
cleave_id=$PPID-$cleave_start-$cleave_pidns-$cleave_boot

cleave_register() { # a number
  set -C
  printf '%s\\n%s\\n' "$cleave_writer" "$cleave_repository" 2>/dev/null >"$cleave_inflight/$cleave_id.$1"
  cleave_code=$?
  set +C
  return $cleave_code
}

# Where a change goes when its writer is done: a name that no other transaction ever had.
cleave_change=$cleave_dirty/$cleave_id-$$-$cleave_own_start

case $cleave_state in
  prepared) ;;
  committed | aborted)
    if [ -x "$cleave_earlier" ]; then "$cleave_earlier" "$cleave_state"; fi
    cleave_number=0
    while [ -e "$cleave_inflight/$cleave_id.$((cleave_number + 1))" ]; do
      cleave_number=$((cleave_number + 1))
    done
    if [ $cleave_number = 0 ]; then
      # The hook came while the transaction ran.
      [ "$cleave_state" = committed ] || exit 0
      cleave_number=1
      cleave_register 1 || exit 1
    fi
    exec mv -f "$cleave_inflight/$cleave_id.$cleave_number" "$cleave_change"
    ;;
  *) exit 0 ;;
esac

# In this order: registered first, and only then the share is read. So the fence sees every writer that may pass it.
cleave_number=1
until cleave_register $cleave_number; do
  cleave_number=$((cleave_number + 1))
  [ $cleave_number -lt 100 ] || cleave_refuse 'this repository is read-only: its fence cannot be asked'
done

cleave_self= cleave_default= cleave_owner=
read -r cleave_self 2>/dev/null <"$cleave_control/self"
read -r cleave_default 2>/dev/null <"$cleave_control/default"
[ -n "$cleave_self" ] && [ -n "$cleave_default" ] ||
  cleave_refuse 'this repository is read-only: the identity of this Pod is not established'

cleave_waited=0
until read -r cleave_owner 2>/dev/null <"$cleave_control/owners/git/$cleave_repository" && [ -n "$cleave_owner" ]; do
  if [ $cleave_waited = 0 ]; then
    # The agent looks at everything dirty, and so learns of a repository that is new to it.
    cp "$cleave_inflight/$cleave_id.$cleave_number" "$cleave_control/tmp/$cleave_id-$$" 2>/dev/null &&
      mv -f "$cleave_control/tmp/$cleave_id-$$" "$cleave_change" 2>/dev/null
  fi
  [ $cleave_waited -lt ${OWNER_WAIT_MS} ] ||
    cleave_refuse 'this repository is read-only: nobody knows yet who owns it; push again'
  sleep 0.0${OWNER_POLL_MS} 2>/dev/null || sleep 1
  cleave_waited=$((cleave_waited + ${OWNER_POLL_MS}))
done

cleave_pass() {
  if [ -x "$cleave_earlier" ]; then exec "$cleave_earlier" prepared; fi
  exit 0
}
cleave_wrong() {
  cleave_refuse "$1 is authoritative for this repository"
}

[ "$cleave_owner" != shared ] || cleave_pass
cleave_folder=$cleave_control/routes/\${cleave_owner%"\${cleave_owner#??}"}
# A folder that cannot be searched looks like one without the file: unknown is no.
[ -d "$cleave_control/routes" ] && [ -x "$cleave_control/routes" ] ||
  cleave_refuse 'this repository is read-only: its route cannot be read'
[ ! -e "$cleave_folder" ] || [ -x "$cleave_folder" ] ||
  cleave_refuse 'this repository is read-only: its route cannot be read'

# A migration's routes are rewritten before its share goes, so a missing share means: read the route again.
for cleave_attempt in 1 2 3; do
  cleave_base=$cleave_default cleave_migration=- cleave_to=-
  if [ -e "$cleave_folder/$cleave_owner" ]; then
    cleave_base=
    read -r cleave_base cleave_migration cleave_to 2>/dev/null <"$cleave_folder/$cleave_owner"
    [ -n "$cleave_base" ] && [ -n "$cleave_to" ] ||
      cleave_refuse 'this repository is read-only: its route cannot be read'
  fi
  if [ "$cleave_migration" = - ]; then
    [ "$cleave_base" = "$cleave_self" ] || cleave_wrong "$cleave_base"
    cleave_pass
  fi
  [ -r "$cleave_control/shares/$cleave_migration" ] || continue
  # Not over stdin: that belongs to the earlier hook.
  while read -r cleave_target cleave_source cleave_phase <&3; do
    [ "$cleave_target" = "$cleave_to" ] || continue
    case $cleave_phase in
      source)
        [ "$cleave_self" = "$cleave_source" ] || cleave_wrong "$cleave_source"
        cleave_pass
        ;;
      fenced)
        [ "$cleave_self" = "$cleave_source" ] || cleave_wrong "$cleave_source"
        cleave_refuse 'this repository is read-only for a moment; push again'
        ;;
      transferred)
        [ "$cleave_self" = "$cleave_target" ] || cleave_wrong "$cleave_target"
        cleave_refuse 'this repository is read-only for a moment, while this Pod opens it; push again'
        ;;
      opened)
        [ "$cleave_self" = "$cleave_target" ] || cleave_wrong "$cleave_target"
        cleave_pass
        ;;
    esac
  done 3<"$cleave_control/shares/$cleave_migration"
  break
done
cleave_refuse 'this repository is read-only: its fence cannot be read'
`;
}
