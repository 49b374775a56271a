"""What a program with the official Python client does with the hub.

    client.py mirror KUBECONFIG    holds all clusters, and prints each change as a line of JSON
    client.py write KUBECONFIG     writes in every way there is, and prints each answer as a line of JSON
"""

import json
import sys
import time

import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

GROUP, VERSION, CLUSTERS = "edgefleet.dev", "v1alpha1", "clusters"
# Less than there are clusters, so that lists have pages.
PAGE = 100
GONE = 410


def tell(event, item=None):
    line = {"event": event, "resource": CLUSTERS}
    if item is not None:
        line |= {"key": item["metadata"]["name"], "version": item["metadata"]["resourceVersion"]}
    print(json.dumps(line), flush=True)


def mirror(api):
    held = {}
    while True:
        try:
            version = relist(api, held)
            tell("synced")
            follow(api, held, version)
        except ApiException as error:
            # 0: no answer at all. A version that is too old is no failure: what is missed is listed.
            if error.status not in (0, GONE):
                raise
        except urllib3.exceptions.HTTPError:
            # The hub is away.
            time.sleep(0.2)


def relist(api, held):
    listed, following = {}, None
    while True:
        page = api.list_cluster_custom_object(GROUP, VERSION, CLUSTERS, limit=PAGE, _continue=following)
        listed |= {item["metadata"]["name"]: item for item in page["items"]}
        following = page["metadata"].get("continue")
        if not following:
            break
    for name in held.keys() - listed.keys():
        tell("deleted", held.pop(name))
    for name, item in listed.items():
        known = held.get(name)
        held[name] = item
        if known is None:
            tell("added", item)
        elif known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            tell("updated", item)
    return page["metadata"]["resourceVersion"]


def follow(api, held, version):
    """Watches until the watch ends with an error; a watch that ends by itself goes on where it was."""
    words = {"ADDED": "added", "MODIFIED": "updated", "DELETED": "deleted"}
    changes = watch.Watch().stream(
        api.list_cluster_custom_object, GROUP, VERSION, CLUSTERS, resource_version=version
    )
    for change in changes:
        item = change["object"]
        if change["type"] == "DELETED":
            held.pop(item["metadata"]["name"])
        else:
            held[item["metadata"]["name"]] = item
        tell(words[change["type"]], item)


def write(api):
    def cluster(name, **labels):
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Cluster",
            "metadata": {"name": name, "labels": labels},
            "spec": {"accepted": True},
        }

    def asked(what, ask):
        try:
            answer = ask()
            print(json.dumps({"what": what, "code": 200, "labels": answer.get("metadata", {}).get("labels")}))
            return answer
        except ApiException as error:
            status = json.loads(error.body)
            line = {"what": what, "code": error.status, "reason": status["reason"], "message": status["message"]}
            print(json.dumps(line))
            return None

    place = (GROUP, VERSION, CLUSTERS)
    name = "python-1"
    created = asked("create", lambda: api.create_cluster_custom_object(*place, cluster(name, by="python")))
    asked("create again", lambda: api.create_cluster_custom_object(*place, cluster(name)))
    asked(
        "dry run",
        lambda: api.create_cluster_custom_object(*place, cluster("python-2"), dry_run="All"),
    )
    asked("get what was not kept", lambda: api.get_cluster_custom_object(*place, "python-2"))
    merge = {"metadata": {"labels": {"site": "north"}}}
    asked("merge patch", lambda: api.patch_cluster_custom_object(*place, name, merge))
    operations = [
        {"op": "test", "path": "/metadata/labels/site", "value": "north"},
        {"op": "replace", "path": "/metadata/labels/site", "value": "south"},
    ]
    json_patch = {"_content_type": "application/json-patch+json"}
    asked("JSON patch", lambda: api.patch_cluster_custom_object(*place, name, operations, **json_patch))
    asked(
        "JSON patch whose test fails",
        lambda: api.patch_cluster_custom_object(*place, name, operations, **json_patch),
    )
    applied = cluster(name, site="west")
    apply = {"_content_type": "application/apply-patch+yaml", "field_manager": "client"}
    asked("apply over another's", lambda: api.patch_cluster_custom_object(*place, name, applied, **apply))
    asked("apply by force", lambda: api.patch_cluster_custom_object(*place, name, applied, force=True, **apply))
    asked("replace what has changed", lambda: api.replace_cluster_custom_object(*place, name, created))
    newest = api.get_cluster_custom_object(*place, name)
    newest["metadata"]["labels"] = {"site": "east"}
    asked("replace", lambda: api.replace_cluster_custom_object(*place, name, newest))
    wrong = {"spec": {"accepted": "perhaps"}}
    asked("patch with a wrong type", lambda: api.patch_cluster_custom_object(*place, name, wrong))
    asked("delete", lambda: api.delete_cluster_custom_object(*place, name))
    asked("get what was deleted", lambda: api.get_cluster_custom_object(*place, name))


def main():
    commands = {"mirror": mirror, "write": write}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    config.load_kube_config(config_file=sys.argv[2])
    commands[sys.argv[1]](client.CustomObjectsApi())


main()
