"""What a crate is made of, as CycloneDX 1.5: sbom.py CRATE TIMESTAMP < `cargo metadata`, in the folder of Cargo.lock.

The crates that are linked into it, with their licences and the checksums of Cargo.lock; not those that only build or
test it, as macros do, which run in the compiler, with all that they need. The same lock file gives the same bytes.
"""
import json
import re
import sys
import uuid

name, timestamp = sys.argv[1:]
metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

with open("Cargo.lock") as lock:
    checksums = {
        (entry["name"], entry["version"]): entry.get("checksum")
        for entry in (
            dict(re.findall(r'^(\w+) = "(.*)"$', part, re.M)) for part in lock.read().split("[[package]]")[1:]
        )
    }


def macro(package):
    return any("proc-macro" in target["kind"] for target in packages[package]["targets"])


def linked(package):
    """The crates that one needs when it runs."""
    return [
        other["pkg"]
        for other in nodes[package]["deps"]
        if any(kind["kind"] is None for kind in other["dep_kinds"]) and not macro(other["pkg"])
    ]


def reference(package):
    return "pkg:cargo/{name}@{version}".format(**packages[package])


def component(package):
    crate = packages[package]
    found = {
        "type": "library",
        "bom-ref": reference(package),
        "name": crate["name"],
        "version": crate["version"],
        "purl": reference(package),
        # The older way to write it has a slash.
        "licenses": [{"expression": (crate["license"] or "NOASSERTION").replace("/", " OR ")}],
    }
    checksum = checksums.get((crate["name"], crate["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


root = next(package["id"] for package in metadata["packages"] if package["name"] == name)
seen, waiting = {root}, [root]
while waiting:
    for other in linked(waiting.pop()):
        if other not in seen:
            seen.add(other)
            waiting.append(other)

crates = sorted(seen - {root}, key=reference)
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"timestamp": timestamp, "component": component(root)},
    "components": [component(crate) for crate in crates],
    "dependencies": [
        {"ref": reference(crate), "dependsOn": sorted(reference(other) for other in linked(crate))}
        for crate in [root] + crates
    ],
}
bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn
json.dump(bom, sys.stdout, indent=2, sort_keys=True)
print()
