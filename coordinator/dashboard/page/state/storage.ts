/** The browser's storage, where it allows one: a page without it works, and only remembers less. */
export function remembered(storage: "session" | "local", key: string): string | null {
  try {
    return (storage === "session" ? sessionStorage : localStorage).getItem(`cleave-${key}`);
  } catch {
    return null;
  }
}

export function remember(storage: "session" | "local", key: string, value: string | null): void {
  try {
    const chosen = storage === "session" ? sessionStorage : localStorage;
    if (value === null) chosen.removeItem(`cleave-${key}`);
    else chosen.setItem(`cleave-${key}`, value);
  } catch {
    // Kept in memory for as long as the page is open.
  }
}
