/** The bytes that came are not the expected ones. What was kept of them is gone. */
export class ContentMismatch extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ContentMismatch";
  }
}
