"""Traces and metrics for an OpenTelemetry collector. Nothing of OpenTelemetry's SDK is imported until they are on."""
