// The OpenID provider of tests: panva's certified oidc-provider, set up to speak as EGI Check-in does. ID tokens name the person by sub
// alone, access tokens are opaque, and entitlements are found at UserInfo only; a token for a resource is a JWT with its audience.
// provider.mjs MODULES '{"port": 0, "clients": [...], "accounts": {"alice": {...claims}}, "seconds": 600}'; prints its issuer when it answers.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [modules, told] = process.argv.slice(2);
const { default: Provider } = createRequire(`${modules}/`)("oidc-provider");
const { port = 0, clients = [], accounts = {}, seconds = 600 } = JSON.parse(told);

const server = createServer();
await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients,
  claims: {
    openid: ["sub"],
    profile: ["name", "preferred_username"],
    email: ["email"],
    voperson_id: ["voperson_id"],
    eduperson_entitlement: ["eduperson_entitlement", "realm_access"],
  },
  conformIdTokenClaims: true,
  cookies: { keys: ["not a secret: a provider of tests"] },
  features: {
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, audience) => ({
        audience,
        scope: "openid infer",
        accessTokenFormat: "jwt",
        accessTokenTTL: seconds,
        jwt: { sign: { alg: "RS256" } },
      }),
      useGrantedResource: () => true,
    },
    rpInitiatedLogout: { enabled: true },
  },
  findAccount: (_context, id) =>
    id in accounts ? { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) } : undefined,
  scopes: ["openid", "infer"],
  pkce: { required: () => true },
  ttl: { AccessToken: seconds, IdToken: seconds },
});
provider.on("server_error", (_context, error) => console.error(error));
server.on("request", provider.callback());
console.log(issuer);
