import { randomBytes } from "node:crypto";
import type { Random } from "../ports/random.ts";

/** The operating system's generator: unpredictable, so that names made of it do not collide or get guessed. */
export const systemRandom: Random = {
  hex: (bytes) => randomBytes(bytes).toString("hex"),
};
