export interface Random {
  /** `bytes` random bytes in lower-case hexadecimal. */
  hex(bytes: number): string;
}
