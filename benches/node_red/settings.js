// As small as Node-RED runs: no editor, no log but errors.
module.exports = {
  flowFile: "flow.json",
  uiPort: 0,
  uiHost: "127.0.0.1",
  httpAdminRoot: false,
  httpNodeRoot: false,
  credentialSecret: false,
  diagnostics: { enabled: false },
  telemetry: { enabled: false },
  logging: { console: { level: "error", metrics: false, audit: false } },
};
