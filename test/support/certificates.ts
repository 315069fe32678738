/** Certificates for tests, made by openssl: an issuer, and a server that it vouches for. */
import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface Certificates {
  /** PEM file of the issuer. */
  readonly caFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** For 127.0.0.1 and localhost, valid for a day; `name` begins the names of the files. */
export async function makeCertificates(folder: string, name = "server"): Promise<Certificates> {
  const file = (suffix: string) => join(folder, `${name}${suffix}`);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...newKey,
    "-subj",
    `/CN=issuer of ${name}`,
    "-days",
    "1",
    "-keyout",
    file("-ca.key"),
    "-out",
    file("-ca.crt"),
  );
  openssl("req", ...newKey, "-subj", `/CN=${name}`, "-keyout", file(".key"), "-out", file(".csr"));
  await writeFile(file(".ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  openssl(
    "x509",
    "-req",
    "-in",
    file(".csr"),
    "-CA",
    file("-ca.crt"),
    "-CAkey",
    file("-ca.key"),
    "-CAcreateserial",
    "-days",
    "1",
    "-extfile",
    file(".ext"),
    "-out",
    file(".crt"),
  );
  const [caFile, certificateFile, keyFile] = [file("-ca.crt"), file(".crt"), file(".key")];
  const read = (path: string) => readFile(path, "utf8");
  return {
    caFile,
    certificateFile,
    keyFile,
    ca: await read(caFile),
    certificate: await read(certificateFile),
    key: await read(keyFile),
  };
}
