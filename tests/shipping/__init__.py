"""What is shipped around the service: image, compose file, Kubernetes objects, alert rules and dashboard.

None of these tests needs a container engine or a cluster. They build and check the files with the tools that would run
them (kubectl's kustomize, hadolint, promtool) and hold every setting, command, port, path and metric in them against
the code.
"""
