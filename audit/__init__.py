"""`make audit`: known vulnerabilities, how images and containers are confined, and what is in the images."""
