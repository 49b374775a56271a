//! Manifests that several promises are made of.

/// A Deployment `web` of one pod.
pub(crate) const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.com/web:1}]}";

/// A Deployment `web` of two pods.
pub(crate) const TWO_WEBS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.com/web:1}]}";

/// The Service before either.
pub(crate) const WEB_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}";

/// A namespace, and a ConfigMap `greeting` in it.
pub(crate) fn greeting(namespace: &str, greeting: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeting}}
data: {{GREETING: {greeting}}}
"
    )
}
