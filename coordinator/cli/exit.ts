/** Exit codes of `cleave`, documented in its help. */
export const EXIT = { ok: 0, error: 1, usage: 2, refused: 3, unreachable: 4 } as const;
