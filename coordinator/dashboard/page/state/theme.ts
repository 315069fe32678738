/** Light, dark, or as the system says. */
import { effect, signal } from "@preact/signals";
import { remember, remembered } from "./storage.ts";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const known = THEMES.find((theme) => theme === remembered("local", "theme"));
export const theme = signal<Theme>(known ?? "system");

effect(() => {
  remember("local", "theme", theme.value === "system" ? null : theme.value);
  if (theme.value === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme.value);
});
