// Browsers start no worker from a file on disk, so the search of a site without a server runs in a hidden frame.
// Only what the theme's search uses is here: messages both ways. The theme looks for this name.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super()
    this.frame = document.createElement("iframe")
    this.frame.hidden = true
    document.body.appendChild(this.frame)
    const inside = this.frame.contentWindow
    window.addEventListener("message", (event) => {
      if (event.source === inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
    })
    inside.document.open()
    inside.document.write(
      '<script>postMessage = (data) => parent.postMessage(data, "*")</script>' + `<script src="${url}"></script>`
    )
    inside.document.close()
    this.ready = new Promise((resolve) => inside.addEventListener("load", resolve))
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
  }
}
window.IFrameWorker = IFrameWorker
if (location.protocol === "file:") window.Worker = IFrameWorker
