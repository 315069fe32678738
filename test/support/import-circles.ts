/** Circles among files that import each other. */

/**
 * @param importsOf by file, the files that it imports.
 * @returns circles, each as its files in the order of their imports with the first again at the end. Empty exactly when
 * there is none; when there are many that share files, some of them.
 */
export function findCircles(importsOf: ReadonlyMap<string, readonly string[]>): string[][] {
  const circles: string[][] = [];
  const done = new Set<string>();
  const path: string[] = [];

  function visit(file: string): void {
    const at = path.indexOf(file);
    if (at >= 0) circles.push([...path.slice(at), file]);
    if (at >= 0 || done.has(file)) return;
    path.push(file);
    for (const imported of importsOf.get(file) ?? []) visit(imported);
    path.pop();
    done.add(file);
  }

  for (const file of importsOf.keys()) visit(file);
  return circles;
}
