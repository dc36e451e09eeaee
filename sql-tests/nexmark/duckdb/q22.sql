-- Get URL directories. Every bid with the first three directories of its address.
SELECT auction, bidder, price, channel, dirs[1], dirs[2], dirs[3]
FROM (SELECT *, regexp_extract_all(url, '/([^/]+)', 1)[2:] AS dirs FROM bid);
