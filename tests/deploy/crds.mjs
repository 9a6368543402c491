// Validates custom resources, a JSON list on stdin, by their own schemas; prints what is wrong with each.
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "keda.sh": "@kubernetes-models/keda",
  "cert-manager.io": "@kubernetes-models/cert-manager",
};
const modules = process.argv[2];
let text = "";
for await (const piece of process.stdin) text += piece;
const found = [];
for (const resource of JSON.parse(text)) {
  const [group, version] = resource.apiVersion.split("/");
  const at = `${modules}/${PACKAGES[group]}/${group}/${version}/${resource.kind}.js`;
  const kind = (await import(pathToFileURL(at)))[resource.kind];
  try {
    new kind(resource).validate();
    found.push("");
  } catch (error) {
    found.push(String(error));
  }
}
console.log(JSON.stringify(found));
