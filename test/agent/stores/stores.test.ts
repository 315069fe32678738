/** PostgreSQL, Git and objects, the real ones and the simulator's, keep the same promises. */
import { modelFilePair, modelPostgresPair } from "../../support/stores/model-store-pairs.ts";
import { postgresMovePair } from "../../support/stores/move-store-pair.ts";
import { gitPair, objectsPair, postgresPair } from "../../support/stores/real-store-pairs.ts";
import { storeContract } from "./contract.ts";

storeContract("PostgreSQL", postgresPair);
storeContract("PostgreSQL, the simulator's model", () => modelPostgresPair());
storeContract("PostgreSQL, a move", postgresMovePair);
storeContract("PostgreSQL, a move in the simulator's model", () => modelPostgresPair("move"));
storeContract("Git", gitPair);
storeContract("Git, the simulator's model", () => modelFilePair("git"));
storeContract("objects", objectsPair);
storeContract("objects, the simulator's model", () => modelFilePair("objects"));
storeContract("Git, a move in the simulator's model", () => modelFilePair("git", "move"));
storeContract("objects, a move in the simulator's model", () => modelFilePair("objects", "move"));
