/** The clients' memory: which keys there are, what their acknowledged state is, and what was seen of them. */
import type { WriteKind } from "./ledger.ts";

export interface Known {
  readonly kind: WriteKind;
  readonly organization: string;
  readonly key: string;
  /** Of the last acknowledged write; 0 before the first. */
  revision: number;
  /** Of the last acknowledged write; null when it was deleted. */
  state: string | null;
  /** The newest revision that a reader has seen. */
  seenRevision: number;
  /** A write of it is on its way. */
  busy: boolean;
  /** An answer is missing, so what holds is not known exactly; it is not written again. */
  abandoned: boolean;
  /** Of refs: every commit that was acknowledged, oldest first; the index is the revision minus one. */
  readonly history: (string | null)[];
}

/** A key without a live state is kept for readers this long, then forgotten, so that memory stays bounded. */
const KEPT_DELETED = 200;

export class Knowledge {
  /** Per kind and organization. */
  readonly #keys = new Map<string, Known[]>();

  add(kind: WriteKind, organization: string, key: string): Known {
    const known: Known = {
      kind,
      organization,
      key,
      revision: 0,
      state: null,
      seenRevision: 0,
      busy: false,
      abandoned: false,
      history: [],
    };
    const list = this.#list(kind, organization);
    list.push(known);
    const deleted = list.filter((item) => item.revision > 0 && item.state === null && !item.busy);
    if (deleted.length > KEPT_DELETED) list.splice(list.indexOf(deleted[0] as Known), 1);
    return known;
  }

  /** Keys that may be written now and exist. */
  writable(kind: WriteKind, organization: string): Known[] {
    return this.#list(kind, organization).filter(
      (known) => !known.busy && !known.abandoned && known.state !== null,
    );
  }

  /** Keys about which at least one write was acknowledged. */
  readable(kind: WriteKind, organization: string): Known[] {
    return this.#list(kind, organization).filter((known) => !known.abandoned && known.revision > 0);
  }

  #list(kind: WriteKind, organization: string): Known[] {
    const id = `${kind} ${organization}`;
    let list = this.#keys.get(id);
    if (list === undefined) {
      list = [];
      this.#keys.set(id, list);
    }
    return list;
  }
}
