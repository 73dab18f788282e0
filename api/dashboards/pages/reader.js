// Who reads: what the key allows, and where else there is something to see.

import { Away, pause } from "./api.js";
import { byId, fill, reveal } from "./dom.js";

/** Ask as whom the reader is known, and say so in the bar. */
export async function greet(api) {
  const me = await patiently(() => api.get("/v1/me"));
  fill(byId("tenant"), me.tenant === "default" ? "" : `tenant ${me.tenant}`);
  const flower = webAddress(me.flower_url);
  if (flower) {
    byId("flower").href = flower;
    reveal(byId("flower"), true);
  }
  return {
    flower,
    tenant: me.tenant,
    may: (scope) => me.scopes.includes(scope) || me.scopes.includes("admin"),
  };
}

/** Try something for as long as nobody answers; whatever else goes wrong is thrown. */
export async function patiently(work) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      await pause(1000);
    }
  }
}

/** Take an address only if it leads to a web page. */
function webAddress(text) {
  const url = URL.canParse(text ?? "") ? new URL(text) : null;
  return url && ["http:", "https:"].includes(url.protocol) ? url.href : null;
}
