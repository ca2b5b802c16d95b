// `node --require`: servers that name no host listen on this machine only, not on all its addresses.
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (first, ...rest) {
  if (typeof first === "number" || (typeof first === "string" && /^\d+$/.test(first))) {
    const named = typeof rest[0] === "string";
    return listen.call(this, first, ...(named ? rest : ["127.0.0.1", ...rest.filter((x) => x !== undefined)]));
  }
  if (first && typeof first === "object" && "port" in first && !first.host) first.host = "127.0.0.1";
  return listen.call(this, first, ...rest);
};
