/** Which organizations go where: the largest two thirds, spread so that the new Pods get about the same. */

export interface SizedOrganization {
  readonly id: string;
  /** Rows, or anything else that says how large it is. */
  readonly size: number;
}

/** @returns Pod → organizations; what is not named stays. Every Pod gets at least one, and at least one stays. */
export function assign(
  organizations: readonly SizedOrganization[],
  pods: readonly string[],
): Map<string, string[]> {
  const moving = Math.min(
    organizations.length - 1,
    Math.max(pods.length, Math.round((organizations.length * 2) / 3)),
  );
  if (moving < pods.length)
    throw new Error(`${organizations.length} organizations are too few for ${pods.length} new Pods`);
  const bySize = [...organizations].sort((a, b) => b.size - a.size || (a.id < b.id ? -1 : 1));
  const loads = pods.map((pod) => ({ pod, size: 0, organizations: [] as string[] }));
  for (const organization of bySize.slice(0, moving)) {
    // Without anything yet first, so that none is left empty when one organization outweighs all others.
    const lightest = loads.reduce((best, load) =>
      Math.min(1, load.organizations.length) < Math.min(1, best.organizations.length) ||
      (Math.min(1, load.organizations.length) === Math.min(1, best.organizations.length) &&
        load.size < best.size)
        ? load
        : best,
    );
    lightest.size += organization.size;
    lightest.organizations.push(organization.id);
  }
  return new Map(loads.map((load) => [load.pod, load.organizations]));
}
