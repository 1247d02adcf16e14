# The service without torch: docs/guides/deploy.md. The ranker is mounted, not built in.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/twinrank
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
RUN /opt/twinrank/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/twinrank /opt/twinrank
# No name in /etc/passwd is needed; volumes mounted at these two folders take their owner.
RUN install -d -o 10001 -g 10001 /srv/ranker /var/lib/twinrank
ENV PATH=/opt/twinrank/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /var/lib/twinrank
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["twinrank"]
CMD ["serve", "/srv/ranker", "--host", "0.0.0.0", "--keys", "/run/secrets/keys", "--feedback", "/var/lib/twinrank/feedback.db"]
