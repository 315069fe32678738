/** PostgreSQL, Git and objects, the real ones and the simulator's, keep the same promises. */
import { modelFilePair, modelPostgresPair } from "../support/model-store-pairs.ts";
import { gitPair, objectsPair, postgresPair } from "../support/real-store-pairs.ts";
import { storeContract } from "./store-contract.ts";

storeContract("PostgreSQL", postgresPair);
storeContract("PostgreSQL, the simulator's model", modelPostgresPair);
storeContract("Git", gitPair);
storeContract("Git, the simulator's model", () => modelFilePair("git"));
storeContract("objects", objectsPair);
storeContract("objects, the simulator's model", () => modelFilePair("objects"));
