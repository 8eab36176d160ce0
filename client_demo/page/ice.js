/** Reads which STUN and TURN servers a WHEP endpoint names in its Link headers (RFC 9725, section 4.6). */

const LINK = /<([^>]*)>((?:\s*;\s*[\w-]+(?:\s*=\s*(?:"[^"]*"|[^\s;,"]+))?)*)/g;
const ATTRIBUTE = /;\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/g;
const SERVER = /^(stuns?|turns?):/;

/**
 * @param {string | null} header all Link headers, joined by commas as `fetch` does
 * @returns {RTCIceServer[]} those of them that are ICE servers
 */
export function iceServersOf(header) {
  const links = [...(header ?? "").matchAll(LINK)].map(([, urls, rest]) => [urls, attributesOf(rest)]);
  const servers = links.filter(([urls, { rel }]) => rel === "ice-server" && SERVER.test(urls));
  return servers.map(([urls, { username, credential }]) => (username ? { urls, username, credential } : { urls }));
}

function attributesOf(text) {
  return Object.fromEntries([...text.matchAll(ATTRIBUTE)].map(([, name, quoted, plain]) => [name, quoted ?? plain]));
}
