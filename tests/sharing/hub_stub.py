"""The few routes of a model hub that pushing and downloading use, on loopback, files in memory."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit


class Hub:
    """What the hub has: files by repository, large files by sha256, and its commits."""

    def __init__(self):
        self.repos, self.private, self.large, self.commits = {}, {}, {}, []
        self.refuses = False

    def commit_id(self, repo):
        digest = hashlib.sha256()
        for name, content in sorted(self.repos[repo].items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:40]


@contextmanager
def serve_hub():
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, body, status=200, **headers):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_POST(self):
            path, body = urlsplit(self.path).path, self.body()
            if hub.refuses:
                return self.reply({"error": "no"}, 403, X_Error_Message="you may not write here")
            if path == "/api/repos/create":
                wanted = json.loads(body)
                repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
                if repo in hub.repos:
                    return self.reply({"error": "exists", "url": f"{address}/{repo}"}, 409)
                hub.repos[repo], hub.private[repo] = {}, wanted.get("visibility") == "private"
                return self.reply({"url": f"{address}/{repo}", "name": repo})
            if path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            if path.endswith(".git/info/lfs/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{address}/large/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                return self.reply({"transfer": "basic", "objects": objects})
            repo, _, action = (
                path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
            )
            if action == "preupload":
                files = [
                    {"path": f["path"], "uploadMode": mode_of(f["path"]), "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self.reply({"files": files})
            lines = [json.loads(line) for line in body.splitlines()]
            hub.commits.append(lines)
            for line in lines:
                value, files = line["value"], hub.repos[repo]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    files.pop(value["path"])
            commit = hub.commit_id(repo)
            return self.reply(
                {"commitUrl": f"{address}/{repo}/commit/{commit}", "commitOid": commit}
            )

        def do_PUT(self):
            hub.large[self.path.rpartition("/")[2]] = self.body()
            self.reply({})

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                repo, _, _ = path.removeprefix("/api/models/").partition("/revision/")
                repo, _, tree = repo.partition("/tree/")
                if repo not in hub.repos:
                    return self.reply({"error": "none"}, 404, X_Error_Code="RepoNotFound")
                files = hub.repos[repo]
                if tree:
                    return self.reply(
                        [
                            {"type": "file", "path": n, "size": len(c), "oid": "0" * 40}
                            for n, c in files.items()
                        ]
                    )
                names = [{"rfilename": name} for name in files]
                return self.reply({"id": repo, "sha": hub.commit_id(repo), "siblings": names})
            repo, _, rest = path.removeprefix("/").partition("/resolve/")
            content = hub.repos.get(repo, {}).get(rest.partition("/")[2])
            if content is None:
                return self.reply({"error": "none"}, 404, X_Error_Code="EntryNotFound")
            etag, commit = f'"{hashlib.sha256(content).hexdigest()}"', hub.commit_id(repo)
            return self.reply(content, ETag=etag, X_Repo_Commit=commit)

        def do_HEAD(self):
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    hub.address = address
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def mode_of(path):
    return "lfs" if path.endswith(".safetensors") else "regular"
