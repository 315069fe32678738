/**
 * What a transition of a machine may use of an actor, for one that starts no actors and has no effects. XState's own
 * `transition` makes an actor for each call, which is half of what folding costs.
 */
import { type AnyStateMachine, createActor, type InputFrom } from "xstate";

export type IdleScope<M extends AnyStateMachine> = Parameters<M["transition"]>[2];

export function idleScope<M extends AnyStateMachine>(machine: M, input: InputFrom<M>): IdleScope<M> {
  const self = createActor(machine, { input } as never);
  const nothing = () => undefined;
  return {
    self,
    system: self.system,
    id: "",
    sessionId: "",
    logger: nothing,
    defer: nothing,
    emit: nothing,
    stopChild: nothing,
    actionExecutor: nothing,
  } as IdleScope<M>;
}
