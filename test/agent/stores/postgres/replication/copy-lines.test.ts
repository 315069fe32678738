/** Where lines of COPY end, and what they begin with. */
import { describe, expect, it } from "vitest";
import { firstValues, LineCursor } from "../../../../../agent/stores/postgres/replication/copy-lines.ts";

describe("lines of COPY", () => {
  it("tell their key, whatever is in it", () => {
    expect(firstValues(Buffer.from("1\ta\\tb\\\\t\\n\trest\tof it"), 2)).toEqual(["1", "a\tb\\t\n"]);
    expect(firstValues(Buffer.from("alone"), 1)).toEqual(["alone"]);
  });

  it("are found wherever the pieces end", () => {
    const text = Buffer.from("1\tone\n22\ttwo\n333\tthree\n");
    for (let size = 1; size <= text.length; size++) {
      const cursor = new LineCursor();
      const found: string[] = [];
      for (let at = 0; at < text.length; at += size) {
        const piece = text.subarray(at, at + size);
        const last = cursor.take(piece, true);
        if (last !== null) found.push(last.line.toString());
      }
      expect(found.at(-1)).toBe("333\tthree");
      expect(found.every((line) => ["1\tone", "22\ttwo", "333\tthree"].includes(line))).toBe(true);
    }
  });
});
