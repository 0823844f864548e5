"""The dashboard: pages that are rendered here, over the services and reports that the native API has."""
