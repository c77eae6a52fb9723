// Who is to draw again after a change of the state that the pages show.
const listeners = new Set();
let asked = false;

/** Calls `listener` after each change, at most once a frame; gives what ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The state has changed. */
export function changed() {
  if (asked) return;
  asked = true;
  const draw = () => {
    asked = false;
    listeners.forEach((listener) => listener());
  };
  // A hidden page draws no frames, and is to be right when it is shown again.
  if (document.hidden) setTimeout(draw, 500);
  else requestAnimationFrame(draw);
}
