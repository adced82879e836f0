// Optional extras for pages, which work without scripts: buttons that copy code, and filters that are open where there is room.

const live = document.createElement("p");
live.className = "hidden";
live.setAttribute("role", "status");
document.body.append(live);

for (const button of document.querySelectorAll("button[data-copy]")) {
  const code = button.closest(".code").querySelector("code");
  // Browsers offer the clipboard only on secure pages and on this machine.
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      live.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
      getSelection().selectAllChildren(code);
    }
    setTimeout(() => { button.textContent = "Copy"; live.textContent = ""; }, 3000);
  });
}

const wide = matchMedia("(min-width: 60rem)");
function arrange() {
  for (const details of document.querySelectorAll("details[data-open-when-wide]")) details.open = wide.matches;
}
wide.addEventListener("change", arrange);
arrange();

// Choosing an order submits the search at once; without scripts, the button does.
document.getElementById("sort")?.addEventListener("change", (event) => event.target.form.requestSubmit());
