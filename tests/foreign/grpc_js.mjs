// Makes one call with @grpc/grpc-js. Requests come from stdin, one JSON value a line, and the last
// of them with its end; answers go to stdout in the same way. SIGINT cancels. The status goes to
// stderr.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const given = JSON.parse(process.argv[2]);
const require = createRequire(`${given.modules}/`);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const options = { keepCase: true, longs: String, enums: String, bytes: String };
const definition = given.protos
  ? loader.loadSync(given.files, { ...options, includeDirs: [given.protos] })
  : loader.loadFileDescriptorSetFromBuffer(readFileSync(given.descriptors), options);
const [, service, name] = given.path.split("/");
const method = definition[service][name];
const read = (path) => path && readFileSync(path);
const credentials = given.ca
  ? grpc.credentials.createSsl(read(given.ca), read(given.key), read(given.cert))
  : grpc.credentials.createInsecure();
const client = new grpc.Client(given.address, credentials);
const deadline = given.timeout_s ? Date.now() + 1000 * given.timeout_s : undefined;

const answered = (answer) => console.log(JSON.stringify(answer));
const ended = (status) => {
  const [details] = status.metadata?.get("grpc-status-details-bin") ?? [];
  const code = grpc.status[status.code];
  console.error(JSON.stringify({ code, message: status.details, details: details?.toString("base64") }));
  client.close();
  process.stdin.destroy();
};
const shape = [given.path, method.requestSerialize, method.responseDeserialize];
const lines = createInterface({ input: process.stdin });
let call;
if (method.requestStream) {
  call = client.makeBidiStreamRequest(...shape, { deadline });
  lines.on("line", (line) => call.write(JSON.parse(line)));
  lines.on("close", () => call.end());
} else {
  const { value } = await lines[Symbol.asyncIterator]().next();
  const request = JSON.parse(value);
  if (method.responseStream) call = client.makeServerStreamRequest(...shape, request, { deadline });
  else call = client.makeUnaryRequest(...shape, request, { deadline }, (_, answer) => answer && answered(answer));
}
process.on("SIGINT", () => call.cancel());
call.on("data", answered);
call.on("error", () => {}); // the status tells it
call.on("status", ended);
