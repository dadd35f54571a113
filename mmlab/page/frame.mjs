/** The frame of the page in a notebook: its height and the notebook's theme. */

/** The frame that contains this page; null without one or if it is not accessible. */
function notebookFrame() {
  try {
    const frame = window.frameElement;
    return frame?.dataset.replay ? frame : null;
  } catch { // another origin
    return null;
  }
}

/** Replace the still picture, which is shown until the script runs. */
export function takeFrame() {
  const frame = notebookFrame();
  if (!frame) return;
  frame.style.height = `${frame.dataset.replay}px`;
  const picture = frame.parentElement.querySelector("img");
  if (picture) picture.style.display = "none";
}

/**
 * Follow the theme of the notebook, which can differ from the system's theme.
 * A theme chosen with the button is kept until the notebook's theme changes.
 */
export function followNotebook(changed) {
  const frame = notebookFrame();
  if (!frame) return;
  let theme;
  const follow = () => {
    const dark = isDarkAround(frame);
    if (dark === null || dark === theme) return;
    theme = dark;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  const { body, documentElement } = frame.ownerDocument;
  const observer = new MutationObserver(follow);
  for (const each of [body, documentElement]) observer.observe(each, { attributes: true });
  follow();
}

/** Whether the nearest background around an element is dark; null without a background. */
function isDarkAround(element) {
  for (let each = element.parentElement; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor.match(/[\d.]+/g)?.map(Number);
    if (colour && (colour[3] ?? 1) > 0.5) {
      return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 128;
    }
  }
  return null;
}
