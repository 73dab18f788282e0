// What the reader has chosen on a page, kept in its address: there again after a reload, and for
// whoever is sent the address. Knows names and short texts, not what they mean: an address may say
// anything, so of it is taken only what is offered, or what is put on the page as text.

const LONGEST = 2000; // characters of one value

/** What the address says under a name; "" where it says nothing, or too much. */
export function kept(name) {
  const value = new URLSearchParams(location.search).get(name) ?? "";
  return value.length > LONGEST ? "" : value;
}

/** Which of the `[value, label]` that are offered the address names; the first if it names none. */
export function keptOf(choices, name) {
  const told = kept(name);
  return (choices.find(([value]) => value === told) ?? choices[0])[0];
}

/** Keep a value under a name; "" takes it out. The page stays the same one to go back to. */
export function keep(name, value) {
  const address = new URL(location.href);
  if (value && value.length <= LONGEST) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(history.state, "", address);
}
