-- A customer of the source, whose database moves.
CREATE DATABASE shop;
CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(100) NOT NULL);
INSERT INTO shop.orders (item) VALUES ('a kettle'), ('two cups');
CREATE USER shop@'%' IDENTIFIED BY 'only an example';
GRANT ALL ON shop.* TO shop@'%';
