// The numbers of rights and roles, for whoever must not pull in all the messages: pages show them, workers decode them.

export { EndReason, Right, Role, SessionState } from "../gen/control_pb";
export { ScreenAccess } from "../gen/peer_pb";
