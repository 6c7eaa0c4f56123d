# The server with its default model, without torch:
#
#   podman build -t lesionlab .
#   podman run --rm -p 127.0.0.1:8000:8000 --read-only lesionlab
#   podman run --rm -p 8000:8000 --read-only -e LESIONLAB_API_KEYS lesionlab --hosts derm.example
#
# Another model: -v ./mole.bundle:/mole.bundle:ro ... lesionlab /mole.bundle

FROM docker.io/library/python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN ["python", "-m", "venv", "/opt/lesionlab"]
RUN ["/opt/lesionlab/bin/python", "-m", "pip", "install", "--no-cache-dir", "-c", "constraints.txt", ".[serve,heic]"]

FROM docker.io/library/python:3.11-slim
COPY --from=build /opt/lesionlab /opt/lesionlab
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["/opt/lesionlab/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Port and address belong to the container: what follows the image's name are further options.
ENTRYPOINT ["/opt/lesionlab/bin/lesionlab", "serve", "--host", "0.0.0.0", "--port", "8000"]
